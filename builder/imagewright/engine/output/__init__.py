"""What a build produces: image, archives, layouts, result files, and the push."""

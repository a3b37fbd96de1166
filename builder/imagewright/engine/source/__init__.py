"""What a build is made from: contexts, Dockerfile, arguments, secrets, and what ADD takes from elsewhere."""

"""From a Dockerfile and its base images' configurations to the steps that are executed. Pure."""

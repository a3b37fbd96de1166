"""What is legal in a Dockerfile and probably a mistake: BuildKit's checks, by the same names."""

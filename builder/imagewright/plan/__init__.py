"""A Dockerfile and the configurations of its base images become a ``BuildPlan``. No I/O."""

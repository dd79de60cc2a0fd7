"""The pytest plugin: the only package that knows pytest."""

"""The Kubernetes client of the operator and of the kubectl plugin: requests, pages, watches, errors.

Objects are plain JSON: the typed models of the package ``kubernetes`` rename, drop and copy fields.
"""

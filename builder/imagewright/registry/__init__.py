"""The registry client: authentication, pull and push (OCI distribution specification)."""

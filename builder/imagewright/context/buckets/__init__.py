"""Contexts in the clouds' buckets, fetched by the clouds' own SDKs: extras, imported when used."""

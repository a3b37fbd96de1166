"""Contexts in the clouds' buckets, fetched by the clouds' own SDKs, which are extras and imported where they are used."""

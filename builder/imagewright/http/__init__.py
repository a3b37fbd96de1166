"""HTTP exchanges with registries, token servers and web servers: one client, one table of what is retried.

Talks to the network. A request goes through these modules in this order::

    exchange    one request: TLS settings, proxies, redirects; a login stays with its own origin
    retry       whether a failed attempt is repeated, and after how long
    body        reads a response, no slower than a minimum rate; resumes a broken download
    failures    what a broken connection means
    session     connections: complete headers, TLS contexts, nothing from .netrc or cookies

The package knows nothing of registries, build contexts or reason codes: its callers turn failures into their own
errors.
"""

"""Git repositories, for contexts and for ADD: addresses and logins, the git program, checkouts."""

"""git's words, recorded from several versions and TLS libraries, and the reason that each becomes."""

from __future__ import annotations

import pytest

from imagewright.context.git.address import Login
from imagewright.context.git.errors import explain
from imagewright.errors import Reason

URL = "https://git.example.com/team/TLS-certificate.git"


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("fatal: could not read Username for 'https://git.example.com': terminal prompts disabled", Reason.GIT_AUTH_FAILED),
        ("remote: HTTP Basic: Access denied\nfatal: Authentication failed for '{url}/'", Reason.GIT_AUTH_FAILED),
        ("remote: Invalid username or password.\nfatal: Authentication failed for '{url}/'", Reason.GIT_AUTH_FAILED),
        ("fatal: unable to access '{url}/': The requested URL returned error: 403", Reason.GIT_AUTH_FAILED),
        ("git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.", Reason.GIT_AUTH_FAILED),
        ("No user exists for uid 4711\nfatal: Could not read from remote repository.", Reason.SOURCE_FETCH_FAILED),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", Reason.GIT_AUTH_FAILED),
        ("remote: Repository not found.\nfatal: repository '{url}/' not found", Reason.GIT_REPOSITORY_NOT_FOUND),
        ("fatal: unable to access '{url}/': The requested URL returned error: 404", Reason.GIT_REPOSITORY_NOT_FOUND),
        ("fatal: '/x.git' does not appear to be a git repository\nfatal: Could not read from remote repository.", Reason.GIT_REPOSITORY_NOT_FOUND),
        ("fatal: {url}/info/refs not valid: is this a git repository?", Reason.GIT_REPOSITORY_NOT_FOUND),
        ("fatal: couldn't find remote ref refs/heads/nope", Reason.GIT_REVISION_NOT_FOUND),
        ("error: Server does not allow request for unadvertised object 1111", Reason.GIT_REVISION_NOT_FOUND),
        ("fatal: remote error: upload-pack: not our ref 1111", Reason.GIT_REVISION_NOT_FOUND),
        ("fatal: unable to access '{url}/': Could not resolve host: git.example.com", Reason.SOURCE_UNREACHABLE),
        ("ssh: Could not resolve hostname host: Name or service not known", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': Failed to connect to git.example.com port 443 after 1 ms: Couldn't connect to server", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': Failed to connect to git.example.com port 443 after 2 ms: Could not connect to server", Reason.SOURCE_UNREACHABLE),
        ("ssh: connect to host host port 22: Connection refused", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': Operation too slow. Less than 1000 bytes/sec transferred the last 60 seconds", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': The requested URL returned error: 503", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': The requested URL returned error: 429", Reason.SOURCE_UNREACHABLE),
        ("error: RPC failed; curl 18 transfer closed with outstanding read data remaining\nfatal: early EOF", Reason.SOURCE_UNREACHABLE),
        ("error: RPC failed; curl 56 GnuTLS recv error (-110): The TLS connection was non-properly terminated.", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': Empty reply from server", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': Send failure: Broken pipe", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': Recv failure: Operation timed out", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': Failed sending data to the peer", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': Failure when receiving data from the peer", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': HTTP/2 stream 1 was not closed cleanly: INTERNAL_ERROR (err 2)", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to host:443", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': OpenSSL SSL_read: error:0A000126:SSL routines::unexpected eof while reading, errno 0", Reason.SOURCE_UNREACHABLE),
        ("error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)", Reason.SOURCE_UNREACHABLE),
        ("fatal: unable to access '{url}/': server certificate verification failed. CAfile: none CRLfile: none", Reason.SOURCE_CERTIFICATE_UNTRUSTED),
        ("fatal: unable to access '{url}/': SSL certificate problem: self-signed certificate in certificate chain", Reason.SOURCE_CERTIFICATE_UNTRUSTED),
        ("fatal: unable to access '{url}/': SSL: no alternative certificate subject name matches target host name 'x'", Reason.SOURCE_CERTIFICATE_UNTRUSTED),
        ("fatal: unable to access '{url}/': SSL certificate problem: certificate has expired", Reason.SOURCE_CERTIFICATE_UNTRUSTED),
        ("fatal: unable to access '{url}/': gnutls_handshake() failed: An unexpected TLS packet was received.", Reason.SOURCE_FETCH_FAILED),
        ("fatal: unable to access '{url}/': error:0A00010B:SSL routines::wrong version number", Reason.SOURCE_FETCH_FAILED),
        ("fatal: unable to access '{url}/': The requested URL returned error: 302", Reason.SOURCE_FETCH_FAILED),
        ("fatal: write error: No space left on device\nfatal: early EOF\nerror: RPC failed", Reason.DISK_FULL),
        ("fatal: transport 'file' not allowed", Reason.PATH_NOT_ALLOWED),
        ("fatal: something that nobody has seen yet", Reason.SOURCE_FETCH_FAILED),
        ("", Reason.SOURCE_FETCH_FAILED),
    ],
)  # fmt: skip
def test_the_reason(stderr: str, reason: Reason) -> None:
    error = explain(URL, "fetch", stderr.replace("{url}", URL), Login())
    assert error.reason is reason
    assert URL in error.message
    assert error.hint or reason is Reason.SOURCE_FETCH_FAILED


def test_missing_login_differs_from_a_wrong_one() -> None:
    words = "fatal: Authentication failed for 'x'"
    assert "requires a login" in explain(URL, "fetch", words, Login()).message
    assert "refused the login" in explain(URL, "fetch", words, Login("u", "p")).message


def test_message_quotes_git_and_not_the_server() -> None:
    error = explain(URL, "fetch", "remote: fatal nonsense\nfatal: the real one\nremote: more\n", Login())
    assert "the real one" in error.message
    assert "more" not in error.message


def test_secrets_and_control_characters_are_removed() -> None:
    login = Login("username", "pass word", "b3arer")
    words = "fatal: \x1b[31musername pass word b3arer https://u:p4ss@host/\x07"
    text = explain(URL, "fetch", words, login).render()
    for secret in ("username", "pass word", "b3arer", "p4ss", "\x1b", "\x07"):
        assert secret not in text


def test_a_user_without_a_name_is_told_what_ssh_wants() -> None:
    error = explain(
        URL, "fetch", "No user exists for uid 4711\r\nfatal: Could not read from remote repository.", Login()
    )
    assert "ssh does not run as a user whom /etc/passwd lacks" in error.message
    assert "podTemplate.securityContext.runAsUser" in error.hint

"""Text as it may be shown and kept: without the secrets that addresses in it carry."""

import re

# Their addresses have no user, so an @ in them is part of a path; the @ of a storage account follows a container.
WITHOUT_USER = r"(?!(?:file|dbfs|sqlite[\w+]*):)"
# user:password, up to the last @. A password may have a slash or @ in it, but digits before the first one are a port.
USER_AND_PASSWORD = rf"\b{WITHOUT_USER}(?P<scheme>[a-z][\w+.-]*:/+)[^\s/:\[\]]*:(?!\d{{1,5}}[/?#])\S*@"
# A token alone, as some servers take it. In other addresses a name before the @ is no secret.
TOKEN = r"\b(?P<web>https?:/+)[^\s/:?#]+@"
SECRET_NAMES = (
    r"[\w-]*(?:password|passwd|pwd|secret)",
    r"(?:(?:x-amz-)?security-|(?:access|auth|api|id|refresh|sas|session)[_-]?)?token",
    r"(?:(?:secret[_-])?access|account|api|secret|shared[_-]access)[_-]?key",
    r"(?:x-amz-)?(?:signature|credential)|sig",
)
PARAMETER = rf"(?P<name>[?&;](?:{'|'.join(SECRET_NAMES)})=)[^\s&;\"'<>#]+"
SECRETS = re.compile(rf"{USER_AND_PASSWORD}|{TOKEN}|{PARAMETER}", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """Users and passwords of addresses are left out, secret parameters have *** for a value."""

    def shown(found: re.Match[str]) -> str:
        return f"{found['name']}***" if found["name"] else found["scheme"] or found["web"]

    return SECRETS.sub(shown, text)

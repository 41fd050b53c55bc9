"""Secrets files, and what a caller sends who has a token of one."""

import json


def token(name, secret, *scopes, **limits):
    """A table of a secrets file; `limits` are `indexes` and `prefixes`."""
    keys = {"name": name, "token": secret, "scopes": scopes, **limits}
    return "[[token]]\n" + "".join(f"{key} = {json.dumps(keys[key])}\n" for key in keys)


def secrets_file(path, *tables):
    """Writes it as the server wants it, and returns the setting that names it."""
    path.write_text("\n".join(tables))
    path.chmod(0o600)
    return f"gateway.secrets_path={path}"


def bearer(secret):
    return {"Authorization": "Bearer " + secret}

"""``millrace api``: the HTTP API, documented."""

from __future__ import annotations

import sys

from cyclopts import App

api_app = App(name="api", help="The HTTP API.")


@api_app.command(name="docs")
def api_docs() -> None:
    """Print the documentation of all routes as Markdown."""
    from infra.api_docs import api_markdown

    sys.stdout.write(api_markdown())


@api_app.command(name="openapi")
def api_openapi() -> None:
    """Print the OpenAPI 3.1 document."""
    import msgspec

    from infra.identity import VERSION
    from web.openapi import document
    from web.routes import TABLE

    content = msgspec.json.encode(document(TABLE, VERSION))
    sys.stdout.write(msgspec.json.format(content, indent=2).decode() + "\n")

"""The emulator as it is behind a proxy that ends TLS: policies that refuse plain
HTTP see what they would see on AWS. Run by hypercorn: behind_tls:app."""

from ministack.app import app as emulator


async def app(scope, receive, send):
    if scope["type"] == "http":
        scope = {**scope, "headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
    await emulator(scope, receive, send)

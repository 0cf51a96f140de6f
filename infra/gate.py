"""Prefect's and MLflow's server, each behind a gate: `python -m infra.gate prefect|mlflow PORT`. `infra.stack` starts both.

The gate refuses every request that a browser sends for another page: a foreign Host, a foreign Origin, or a foreign
`Sec-Fetch-Site`. Prefect's server checks neither Host nor the origin of a socket. MLflow's own check trusts each page on
loopback, whatever its port, and so would its basic-auth app, which a browser sends the password to by itself.
"""

from __future__ import annotations

import base64
import hmac
import os
import sys
from collections.abc import Callable

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
STORE_VARIABLE, ARTIFACTS_VARIABLE = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"
# The pages talk to their own server alone. Prefect's newer one records the session for a third party (amplitude.com), also with
# PREFECT_SERVER_ANALYTICS_ENABLED=false.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; base-uri 'self'; form-action 'self'"
_API_PAGES = ("/docs", "/redoc", "/openapi.json")


class Gate:
    """ASGI middleware that answers only its own address, its own pages, and who has the key.

    Args:
        address: host and port, as in the Host header.
        key: `user:password`, asked for by HTTP basic authentication.
        needs_key: whether a request must bring the key; the application may ask for it itself.
    """

    def __init__(self, app: ASGIApp, *, address: str, key: str, needs_key: Callable[[Scope], bool]) -> None:
        self._app = app
        self._address = address
        self._authorization = b"Basic " + base64.b64encode(key.encode())
        self._needs_key = needs_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = _POLICY
            await send(message)

        refusal = None if scope["type"] == "lifespan" else self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send_with_policy)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})  # before it is accepted: HTTP status 403
        else:
            await refusal(scope, receive, send_with_policy)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") != [self._address]:
            return _refuse(403, "PERMISSION_DENIED", f"this server answers as http://{self._address} only")
        if not _from_own_page(scope, headers, f"http://{self._address}"):
            return _refuse(403, "PERMISSION_DENIED", "requests of other pages are refused")
        if self._needs_key(scope) and not hmac.compare_digest(headers.get("authorization", "").encode(), self._authorization):
            return _refuse(401, "UNAUTHENTICATED", "no key or a wrong one; in a terminal: source .acclimate/stack/client.env")
        return None


def _from_own_page(scope: Scope, headers: Headers, own_origin: str) -> bool:
    """Whether no other page caused the request; following a link from elsewhere is allowed. Programs send neither header."""
    if any(origin != own_origin for origin in headers.getlist("origin")):
        return False
    link = (scope.get("method"), headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("GET", "navigate", "document")
    return link or headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _refuse(status: int, code: str, message: str) -> JSONResponse:
    challenge = {"WWW-Authenticate": 'Basic realm="acclimate", charset="UTF-8"'} if status == 401 else None
    return JSONResponse({"error_code": code, "message": message}, status, challenge)  # the shape that MLflow's client reads


def prefect_gate(address: str, key: str) -> Gate:
    """Prefect's server, which asks for the key itself below /api and in its sockets, but not for the pages about the API."""
    from prefect.server.api.server import create_app

    def needs_key(scope: Scope) -> bool:
        path: str = scope["path"]
        return scope["type"] == "http" and path.startswith(_API_PAGES)

    return Gate(create_app(final=True), address=address, key=key, needs_key=needs_key)


def mlflow_gate(address: str, key: str) -> Gate:
    """MLflow's server as `mlflow server` makes it, its pages behind the key too: there the browser asks for it."""
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    store, artifacts = os.environ[STORE_VARIABLE], os.environ[ARTIFACTS_VARIABLE]
    os.environ.update(
        {constants.BACKEND_STORE_URI_ENV_VAR: store, constants.ARTIFACT_ROOT_ENV_VAR: artifacts, "MLFLOW_TRACKING_URI": store}
    )
    initialize_backend_stores(store, store, artifacts)
    from mlflow.server.fastapi_app import app

    return Gate(app, address=address, key=key, needs_key=lambda scope: scope["path"] != "/health")


def main(argv: list[str]) -> int:
    """Serve until a signal comes."""
    name, port = argv[0], int(argv[1])
    gate = {"prefect": prefect_gate, "mlflow": mlflow_gate}[name](f"{HOST}:{port}", os.environ["PREFECT_API_AUTH_STRING"])
    uvicorn.run(gate, host=HOST, port=port, log_level="warning", proxy_headers=False, timeout_graceful_shutdown=5)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

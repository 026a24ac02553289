"""The HTTP side of a client of SERL's robot server: one connection, a time-out on every call, one sentence per failure."""

from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from robot_env.serl_state import ServerState, parse_state

SLOW_S = {"startimp": 15.0, "stopimp": 5.0}  # SERL's server sleeps 3 s and 1 s before it answers these


class SerlServer:
    """A server's routes. Not for two threads at once.

    Args:
        url: such as http://127.0.0.1:5000.
        timeout_s: to connect and to answer, but for the routes that take SERL's server longer.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"address {url!r} of a SERL server is no URL; write it as http://HOST:5000")
        self.url, self._timeout_s = url.rstrip("/"), timeout_s
        self._session = requests.Session()
        self._session.trust_env = False  # a robot is never behind a proxy
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0, pool_block=True)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def state(self) -> ServerState:
        """The newest state. Raises `ConnectionError` where the answer is none, and as `post` does."""
        answer = self.post("getstate")
        try:
            return parse_state(answer.json())
        except ValueError as error:
            raise ConnectionError(f"{self.url}: {error}; is this SERL's robot server?") from error

    def post(self, route: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        """Raises `TimeoutError` and `ConnectionError`."""
        url, timeout_s = f"{self.url}/{route}", SLOW_S.get(route, self._timeout_s)
        try:
            answer = self._session.post(url, json=body, timeout=(self._timeout_s, timeout_s), allow_redirects=False)
        except requests.Timeout as error:
            raise TimeoutError(
                f"{url} gave no answer in {timeout_s:g} s; look at the server and the network"
            ) from error
        except requests.RequestException as error:
            raise ConnectionError(f"{url} cannot be reached; start the robot's server, or correct --arm") from error
        if answer.status_code != 200:
            raise ConnectionError(f"{url} answered {answer.status_code}: {_words(answer)}")
        return answer

    def close(self) -> None:
        """Gives the connection back; the next call opens another."""
        self._session.close()


def _words(answer: requests.Response) -> str:
    """What a refusal says: a twin's server has one sentence for it, a lab's a page of HTML."""
    try:
        return str(answer.json()["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return answer.text[:100]

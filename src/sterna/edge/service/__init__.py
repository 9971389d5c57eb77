"""`sterna serve`: an exported navigator behind HTTP, for robots that ask over a wire.

Needs what the runtime needs, and aiohttp (`sterna[serve]`); neither torch nor the training rooms.

| file | holds |
|---|---|
| `limits.py` | `Limits`, and `Refusal`: an answer that is an error |
| `sessions.py` | `Session`, `Sessions`: who walks at the moment, and for how long |
| `work.py` | `Work`: inference off the event loop, one request of a session at a time |
| `metrics.py` | what is counted, in Prometheus' text format |
| `app.py` | the endpoints, the token, errors as JSON |
| `server.py` | sockets, signals, a clean end |
"""

from sterna.edge.service.limits import Limits
from sterna.edge.service.server import Service, serve

__all__ = ["Limits", "Service", "serve"]

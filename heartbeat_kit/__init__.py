"""A heartbeat for an application: it says `live` or `standby`, and an API call changes that at run time.

    from heartbeat_kit import Heartbeat

    heartbeat = Heartbeat("shop", version="2.0.0-1")
    application = heartbeat.wsgi(application)       # or: application = heartbeat.asgi(application)

Standard library only, Python 3.6 and newer. The contract, for any language, is docs/heartbeat.md.
"""

from .heartbeat import Heartbeat

__all__ = ["Heartbeat"]

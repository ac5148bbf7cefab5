"""What may go wrong between us and a server.

Http1Error
├── ConnectFailed     no connection: nothing was sent
├── Disconnected      the connection ended before the response did
└── InvalidResponse   what came isn't a response that we accept
"""


class Http1Error(Exception):
    pass


class ConnectFailed(Http1Error):
    pass


class Disconnected(Http1Error):
    pass


class InvalidResponse(Http1Error):
    pass

"""A fuzz run against the one-process engine: requests and frames of every kind that nobody means.

``shapes`` makes requests as the OpenAPI document describes them, ``mutations`` spoils them,
``sending`` puts them on the wire, ``judging`` says what each answer may be, ``frames`` does the
same for the WebSocket, ``server`` is the process under fire, ``process`` starts and asks it, and
``running`` plays all of it.
"""

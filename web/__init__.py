"""What is shown: HTTP queries, commands and live topics for people and programs in front of a run.

    settings      what the app can be told
    app           the Starlette app; server runs it
    route_table   routes as data, from which decoding, problems and OpenAPI follow
    decoding      bodies and queries to structs
    problems      errors as RFC 9457 problems
    answers       what the routes answer
    openapi       the document
    views         read models, folded from topics
    routes        the handlers
    waiting       waits for the record that answers a command
    keys          which records of a topic are one thing at different times
    filters, frames, server_frames
                  the WebSocket: what clients ask for and are sent (docs/websocket.md)
    access        who may read which topics
    subscription, catching_up, outbox, connection, hub
                  one client's topics, its way to their ends, its queue, one client, all of them
    bundle, links, direct
                  frames joined for many clients, and written straight into their transports
    asyncapi      the document of topics and WebSocket

It reads and writes topics like any client, and knows nothing of stages.
"""

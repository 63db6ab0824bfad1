"""A WebSocket server that sends every message back: websocket_server.py PORT"""

import asyncio
import sys

import websockets


async def echo(connection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    async with websockets.serve(echo, None, int(sys.argv[1]), max_size=1 << 24):
        await asyncio.Future()


asyncio.run(main())

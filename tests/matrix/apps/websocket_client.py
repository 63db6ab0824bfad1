"""A client of websocket_server.py that says what it saw: websocket_client.py URL"""

import asyncio
import sys

import websockets


async def main() -> None:
    async with websockets.connect(sys.argv[1], max_size=1 << 24) as connection:
        for message in ("text", "ä" * 1000, bytes(range(256)) * 4096):
            await connection.send(message)
            print(type(message).__name__, len(message), await connection.recv() == message)
        await (await connection.ping())
        print("pong")
        await asyncio.sleep(1)
        for number in range(500):
            await connection.send(str(number))
        print(sum([int(await connection.recv()) for _ in range(500)]))
        await connection.close(4000, "enough")
    print(connection.close_code, connection.close_reason)


asyncio.run(main())

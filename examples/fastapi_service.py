"""A web service that owns its store: FastAPI takes orders, a mapping and a worker handle them, SIGTERM drains.

    python examples/fastapi_service.py                             shows all of it on a free port, and ends
    ORDERS_URL=./orders uvicorn examples.fastapi_service:app       serves, with one worker process

An order is durable when it is answered. Its customer's total and the mail that it causes are one commit, so each order
counts once, whatever happens meanwhile. docs/services.md says more.
"""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response

import streamkit
from streamkit import EventSourceMapping, Kit, Record, Stream, Update, each
from streamkit.functions.results import SendMessage
from streamkit.logs import bind, json_logs

log = logging.getLogger("shop")


@dataclass
class Order:
    customer: str
    total: int


@dataclass
class Mail:
    to: str
    text: str


async def send_mail(mail: Mail) -> None:
    await asyncio.sleep(0.01)  # The mail server's time.
    log.info("mailed")  # With queue, message id and receive count, and without the mail.


# ---- what requests need: the kit, and handles made of it


def the_kit(request: Request) -> Kit:
    kit: Kit = request.state.kit
    return kit


def the_orders(kit: Annotated[Kit, Depends(the_kit)]) -> Stream[Order]:
    return kit.stream("orders", type=Order)


router = APIRouter()


@router.post("/orders", status_code=201)
async def take(order: Order, orders: Annotated[Stream[Order], Depends(the_orders)]) -> dict[str, Any]:
    put = await orders.put(order, partition_key=order.customer)
    with bind(stream="orders", shard=put.shard_id, sequence_number=put.sequence_number):
        log.info("taken")
    return {"shard": put.shard_id, "sequence_number": str(put.sequence_number)}


@router.get("/customers/{customer}")
async def look_up(customer: str, kit: Annotated[Kit, Depends(the_kit)]) -> dict[str, Any]:
    item = await kit.table("totals").get(customer)
    if item is None:
        raise HTTPException(404, "no orders of this customer")
    return {"orders": int(item["orders"]), "total": int(item["total"])}


@router.get("/health")
async def health() -> dict[str, bool]:
    return {"alive": True}  # The event loop turns.


@router.get("/ready")
async def ready(kit: Annotated[Kit, Depends(the_kit)], response: Response) -> dict[str, Any]:
    now = kit.health()
    response.status_code = 200 if now.ready else 503
    return {"ready": now.ready, "services": now.services}


# ---- what runs beside them


def create_app(url: str, deliver: Callable[[Mail], Awaitable[None]] = send_mail) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        json_logs(adopt=["uvicorn"])
        logging.getLogger("uvicorn.access").disabled = True
        async with streamkit.open(url) as kit:
            orders = await kit.create_stream("orders", type=Order, exist_ok=True)
            mails = await kit.create_queue("mails", type=Mail, exist_ok=True)
            await kit.create_table("totals", partition_key="customer", exist_ok=True)

            @each
            async def account(record: Record[Order]) -> list[Update | SendMessage[Mail]]:
                order = record.value
                counted = Update(
                    key={"customer": order.customer}, add={"orders": 1, "total": order.total}, table="totals"
                )
                return [counted, SendMessage(mails, Mail(order.customer, f"thank you for {order.total}"))]

            kit.start(EventSourceMapping("account", source=orders, function=account))
            kit.start(mails.worker(deliver, concurrency=8))
            app.mount("/metrics", kit.metrics.asgi_app())
            yield {"kit": kit}
            # SIGTERM: the server has answered whom it was answering. Leaving the block finishes what is in hand.
        log.info("drained")

    app = FastAPI(title="orders", lifespan=lifespan)

    @app.middleware("http")
    async def log_request(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        with bind(request_id=uuid.uuid4().hex):
            response = await go_on(request)
            # The route and not the URL, as an access log has it: there the customer is.
            route = getattr(request.scope.get("route"), "path", None)
            log.info("answered", extra={"method": request.method, "route": route, "status": response.status_code})
        return response

    app.include_router(router)
    return app


app = create_app(os.environ.get("ORDERS_URL", "memory:"))


# ---- the same without the command line, and shown


def serve(app: FastAPI, listening: socket.socket | None = None) -> None:
    """Serve until SIGTERM, and return when all is drained."""
    # uvicorn drains, and then raises the signal again for whoever had it before: for nobody, so the exit code is 0.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=10))
    server.run(sockets=[listening] if listening else None)


def ask(port: int) -> None:
    """What clients do; then this process is told to end, as a supervisor does it."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True) as client:
        for total in (120, 80):
            taken = client.post("/orders", json={"customer": "ada", "total": total})
            print("taken:", taken.status_code, taken.json())
        deadline = time.monotonic() + 20
        while (found := client.get("/customers/ada").json()).get("orders") != 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        print("ada:", found)
        print("ready:", client.get("/ready").json())
        lines = client.get("/metrics").text.splitlines()
        print("metrics:", next(line for line in lines if line.startswith("aws_kinesis_incoming_records_total")))
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    client = threading.Thread(target=ask, args=listening.getsockname()[1:])
    client.start()
    serve(app, listening)
    client.join()
    print("drained")

"""SERL's routes, all POST, as a FastAPI application. What is malformed is answered with 4xx and one sentence."""

from collections.abc import Callable
from math import hypot
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, create_model
from scipy.spatial.transform import Rotation
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from launch.robots.serl_robot import Refused, SerlRobot
from robot_env.arm import GAINS
from robot_env.serl_state import parameters

LARGEST_BODY = 16_384  # bytes; the longest that a client has to say, all parameters, takes 800
LONGEST_M = 2.0  # from the base: beyond any arm's reach
# How far each kind of parameter may go: what keeps the twin, and an arm, far from trembling.
LARGEST = {
    "translational_stiffness": 5000.0,
    "rotational_stiffness": 500.0,
    "translational_damping": 500.0,
    "rotational_damping": 50.0,
    "translational_clip": 0.1,
    "rotational_clip": 0.5,
    "translational_Ki": 100.0,
    "rotational_Ki": 100.0,
}

Metres = Annotated[float, Field(ge=-LONGEST_M, le=LONGEST_M, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Strict = ConfigDict(extra="forbid")


class Pose(BaseModel):
    """`arr`: x y z m, then a unit quaternion x y z w."""

    model_config = Strict
    arr: tuple[Metres, Metres, Metres, Number, Number, Number, Number]


class GripperPosition(BaseModel):
    """0 is open and 255 closed, as a Robotiq gripper counts."""

    model_config = Strict
    gripper_pos: Annotated[float, Field(ge=0, le=255, allow_inf_nan=False)]


class Load(BaseModel):
    """kg, m in the flange's frame, kg·m²."""

    model_config = Strict
    mass: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)]
    F_x_center_load: tuple[Metres, Metres, Metres]
    load_inertia: tuple[Number, ...] = ()


class Scene(BaseModel):
    """Of `/new_scene`, which only a twin has."""

    model_config = Strict
    seed: Annotated[int, Field(ge=0, lt=2**63)]


def _largest(name: str) -> float:
    return next(limit for kind, limit in LARGEST.items() if name.startswith(kind))


_FIELDS: dict[str, Any] = {
    name: (Annotated[float, Field(ge=0, le=_largest(name), allow_inf_nan=False)], None)
    for name in parameters(GAINS["compliant"])
}
Parameters = create_model("Parameters", __config__=Strict, **_FIELDS)


def make_app(robot: SerlRobot) -> FastAPI:
    """The application. Its handlers run in the thread of the event loop, and none takes longer than a control period."""
    app = FastAPI(title="SERL's robot server, from a twin", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SmallBodies)
    app.add_exception_handler(Refused, lambda _, error: _say(409, str(error)))
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _no_route)
    _add_readings(app, robot)
    _add_orders(app, robot)
    _add_bodies(app, robot)
    return app


def _add_readings(app: FastAPI, robot: SerlRobot) -> None:
    """Routes that answer with a part of the state."""
    parts = {"getpos": "pose", "getvel": "vel", "getforce": "force", "gettorque": "torque", "getq": "q", "getdq": "dq"}
    for route, name in {**parts, "getjacobian": "jacobian"}.items():
        _add(app, route, lambda name=name: {name: robot.state()[name]})
    _add(app, "getstate", robot.state)
    _add(app, "get_gripper", lambda: {"gripper": robot.state()["gripper_pos"]})

    def euler() -> dict[str, list[float]]:
        pose = robot.state()["pose"]
        return {"pose": [*pose[:3], *Rotation.from_quat(pose[3:]).as_euler("xyz").tolist()]}

    _add(app, "getpos_euler", euler)


def _add_orders(app: FastAPI, robot: SerlRobot) -> None:
    """Routes that take nothing, and answer with SERL's words. `rest` is a twin's own."""
    orders: dict[str, tuple[Callable[[], None], str]] = {
        "startimp": (robot.start_impedance, "Started impedance"),
        "stopimp": (robot.stop_impedance, "Stopped impedance"),
        "clearerr": (robot.clear_errors, "Clear"),
        "jointreset": (robot.joint_reset, "Reset Joint"),
        "rest": (robot.rest, "Resting"),
        "activate_gripper": (lambda: robot.grip(0.0), "Activated"),
        "reset_gripper": (lambda: robot.grip(0.0), "Reset"),
        "open_gripper": (lambda: robot.grip(1.0), "Opened"),
        "close_gripper": (lambda: robot.grip(0.0), "Closed"),
        "close_gripper_slow": (lambda: robot.grip(0.0), "Closed"),
    }
    for route, (order, words) in orders.items():
        _add(app, route, lambda order=order, words=words: (order(), words)[1])


def _add_bodies(app: FastAPI, robot: SerlRobot) -> None:
    """Routes that take JSON. `new_scene` is a twin's own."""

    @app.post("/pose", response_class=PlainTextResponse)
    async def pose(body: Pose) -> str:
        arr = np.array(body.arr)
        length = hypot(*body.arr[3:])  # which no number is too large for
        if abs(length - 1.0) > 1e-3:
            raise HTTPException(422, f"arr: its quaternion has length {length:.6g}; give a unit quaternion x y z w")
        robot.move(np.concatenate([arr[:3], arr[3:] / length]))
        return "Moved"

    @app.post("/update_param", response_class=PlainTextResponse)
    async def update_param(body: Parameters) -> str:  # type: ignore[valid-type]
        robot.update(body.model_dump(exclude_none=True))  # type: ignore[attr-defined]
        return "Updated compliance parameters"

    @app.post("/set_load", response_class=PlainTextResponse)
    async def set_load(body: Load) -> str:
        robot.set_load(body.mass, np.array(body.F_x_center_load))
        return "Set Load"

    @app.post("/move_gripper", response_class=PlainTextResponse)
    async def move_gripper(body: GripperPosition) -> str:
        robot.grip(1.0 - body.gripper_pos / 255.0)
        return "Moved Gripper"

    @app.post("/new_scene", response_class=PlainTextResponse)
    async def new_scene(body: Scene) -> str:
        robot.new_scene(body.seed)
        return "New scene"


def _add(app: FastAPI, route: str, do: Callable[[], Any]) -> None:
    """A route without a body: what `do` returns is sent as it is where it is text, and as JSON otherwise."""

    async def handle() -> Response:
        done = do()
        return PlainTextResponse(done) if isinstance(done, str) else JSONResponse(done)

    app.add_api_route(f"/{route}", handle, methods=["POST"])


def _say(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a body."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    return _say(422, f"{request.url.path}: {where}: {first['msg']}")


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        return _say(error.status_code, f"{request.method} {request.url.path} is no route of this server; all are POST")
    return _say(error.status_code, f"{request.url.path}: {error.detail}")


class SmallBodies:
    """Refuses bodies that are longer than `LARGEST_BODY`, or that do not say how long they are, before they are read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if b"transfer-encoding" in headers:
                await _say(411, "the body must say its length; send Content-Length")(scope, receive, send)
                return
            if int(headers.get(b"content-length", b"0")) > LARGEST_BODY:
                await _say(413, f"the body is longer than {LARGEST_BODY} bytes; send one pose at a time")(
                    scope, receive, send
                )
                return
        await self._app(scope, receive, send)

"""Pictures of a simulated scene, also on a machine without a display or a GPU."""

import atexit
import os
import sys
import weakref

import mujoco
import numpy as np


class Painter:
    """Draws a model at one picture size. Holds an OpenGL context until `close`.

    `fine` adds shadows and smooth edges: for videos; it costs about ten times as long.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int, fine: bool = False) -> None:
        self._model, self._rect = model, mujoco.MjrRect(0, 0, width, height)
        self._context = _gl_context(width, height)
        # Python tears OpenGL down at exit in an order of its own; contexts must be gone before that.
        self._exit_hook = _closer(weakref.ref(self))
        atexit.register(self._exit_hook)
        self._context.make_current()
        # The frame buffer is as large as the picture and no larger: clearing it is most of the work without a GPU.
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        model.vis.quality.offsamples, model.vis.quality.shadowsize = (4, 2048) if fine else (0, 0)
        self._buffers = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._buffers)
        self._view, self._options = mujoco.MjvCamera(), mujoco.MjvOption()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED.value
        self._scene = mujoco.MjvScene(model, maxgeom=2000)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = fine

    def paint(self, data: mujoco.MjData, camera: str | mujoco.MjvCamera) -> np.ndarray:
        """What the camera of that name, or a free one, sees, `(height, width, 3)` uint8 RGB."""
        view = camera
        if isinstance(view, str):
            view = self._view
            view.fixedcamid = self._model.camera(camera).id
        self._context.make_current()
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, view, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        mujoco.mjr_render(self._rect, self._scene, self._buffers)
        picture = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        mujoco.mjr_readPixels(picture, None, self._rect, self._buffers)
        return picture[::-1].copy()  # OpenGL counts rows from the bottom

    def close(self) -> None:
        """Free the context. Safe to call twice."""
        if self._context is not None:
            self._context.make_current()
            self._buffers.free()
            self._context.free()
            self._context = None
            atexit.unregister(self._exit_hook)

    def __del__(self) -> None:
        if hasattr(self, "_buffers"):
            self.close()


def _closer(painter: weakref.ref):
    def close() -> None:
        if (alive := painter()) is not None:
            alive.close()

    return close


def _gl_context(width: int, height: int):
    """MuJoCo's own choice (the variable MUJOCO_GL), except that Linux without a display and without a choice is EGL."""
    headless = sys.platform == "linux" and not os.environ.get("DISPLAY") and not os.environ.get("MUJOCO_GL")
    try:
        if headless:
            from mujoco.egl import GLContext
        else:
            from mujoco import GLContext
        return GLContext(width, height)
    except Exception as error:  # every backend fails in its own way: missing library, no device, no display
        raise RuntimeError(
            f"cannot draw pictures: OpenGL did not start ({type(error).__name__}: {error}); on Debian or Ubuntu install"
            " libegl1 and libegl-mesa0 and unset MUJOCO_GL, or use a task without cameras"
        ) from error

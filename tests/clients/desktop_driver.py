"""Drives the desktop app of a bundle as a user does; prints what it saw as one JSON object.

`python desktop_driver.py PICTURE`, with the bundle as the folder and first on the path.
"""

import json
import sys
import time
from pathlib import Path

from desktop.drawing import Drawer, Request
from desktop.model import model_folder
from desktop.window import Window
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog

import edgekd

PATIENCE_S = 120.0


def wait(condition):
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        QTest.qWait(20)


def opened(folder):
    window = Window(folder)
    window.show()
    window.start()
    wait(lambda: not window._busy)
    return window


def draws_and_saves(picture):
    window = opened(model_folder())
    seen = {"title": window.windowTitle(), "save_before": window.save.isEnabled()}
    QTest.keyClick(window.prompt, Qt.Key.Key_Return)
    seen["no_prompt"] = window.message.text()
    QTest.keyClicks(window.prompt, "red apple, 3d style")
    window.seed.selectAll()
    QTest.keyClicks(window.seed, "4x294967296")  # the letter is not taken
    QTest.keyClick(window.prompt, Qt.Key.Key_Return)
    seen["large_seed"] = window.message.text()
    window.seed.selectAll()
    QTest.keyClicks(window.seed, "42")
    steps = []
    window._drawer.stepped.connect(lambda done, calls: steps.append([done, calls]))
    QTest.mouseClick(window.draw, Qt.MouseButton.LeftButton)
    seen["while_drawing"] = [window.draw.isEnabled(), window.cancel.isEnabled()]
    wait(lambda: window.drawn is not None)
    seen |= {"steps": [*steps], "message": window.message.text()}
    seen["shown"] = not window.picture.pixmap().isNull()
    suggested = []

    def choose(parent, caption, name, kinds):
        suggested.append(name)
        return str(picture.with_suffix("")), kinds

    QFileDialog.getSaveFileName = choose
    QTest.mouseClick(window.save, Qt.MouseButton.LeftButton)
    seen |= {"suggested": suggested[0], "saved": window.message.text()}
    window.save_to(Path("missing") / "folder" / "a.png")
    seen["not_saved"] = window.message.text()
    # Closing stops a drawing that goes on.
    QTest.mouseClick(window.draw, Qt.MouseButton.LeftButton)
    seen["closed"] = window.close() and window._thread.isFinished()
    return seen


def cancels():
    """In one thread, so that the cancellation comes after the first step for sure."""
    drawer, told = Drawer(model_folder()), []
    drawer.cancelled.connect(lambda: told.append("cancelled"))
    drawer.drawn.connect(lambda drawn: told.append("drawn"))
    drawer.stepped.connect(lambda done, calls: told.append(done) or drawer.cancel())
    drawer.open()
    drawer.draw(Request("red apple", 0))
    return told


def refuses_a_part():
    weights = model_folder() / "unet" / "model.onnx"
    weights.unlink()
    window = opened(model_folder())
    seen = [window.windowTitle(), window.message.text(), window.draw.isEnabled()]
    window.close()
    return seen


app = QApplication(sys.argv)
found = {
    "edgekd": edgekd.__file__,
    "drawing": draws_and_saves(Path(sys.argv[1])),
    "cancel": cancels(),
    "part": refuses_a_part(),
    "torch": "torch" in sys.modules,
}
print(json.dumps(found))

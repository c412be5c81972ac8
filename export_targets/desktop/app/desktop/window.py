"""The window: prompt, seed, progress, picture, save."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from PySide6.QtCore import QRegularExpression, QStandardPaths, Qt, QThread, Signal, Slot
from PySide6.QtGui import QCloseEvent, QImage, QPixmap, QRegularExpressionValidator, QResizeEvent
from PySide6.QtWidgets import (
    QApplication,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMainWindow,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from desktop.drawing import Drawer, Drawn, Request
from desktop.model import Model, model_folder
from edgekd.runtime.png import encode_png

_SEEDS = 2**32  # as many pictures of a prompt as there are: a seed counts by its low 32 bits


class PictureLabel(QLabel):
    """A picture as large as the window lets it be."""

    def __init__(self) -> None:
        super().__init__("The picture appears here.")
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setMinimumSize(320, 320)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._whole = QPixmap()

    def show_picture(self, drawn: Drawn) -> None:
        height, width, _ = drawn.picture.shape
        image = QImage(
            drawn.picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888
        )
        self._whole = QPixmap.fromImage(image)
        self.setAccessibleName(f"Picture of {drawn.request.prompt}")
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 (Qt's name)
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if not self._whole.isNull():
            keep, smooth = (
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
            self.setPixmap(self._whole.scaled(self.size(), keep, smooth))


class Window(QMainWindow):
    """The whole app; `start` opens the model."""

    asked_open = Signal()
    asked_draw = Signal(object)  # Request

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.setWindowTitle("Opening the model")
        self.drawn: Drawn | None = None
        self._model: Model | None = None
        self._busy = True
        self._make_widgets()
        self._lay_out()
        self._thread = QThread(self)
        self._drawer = Drawer(folder)
        self._drawer.moveToThread(self._thread)
        self._connect()
        self._update()

    def start(self) -> None:
        self._thread.start()
        self._say("Checking and opening the model")
        self.asked_open.emit()

    def _make_widgets(self) -> None:
        self.prompt = QLineEdit()
        self.prompt.setPlaceholderText("red apple, 3d style")
        self.seed = QLineEdit("0")
        self.seed.setValidator(QRegularExpressionValidator(QRegularExpression(r"\d{1,10}")))
        self.new_seed = QPushButton("New seed")
        self.draw = QPushButton("Draw")
        self.draw.setDefault(True)
        self.cancel = QPushButton("Cancel")
        self.save = QPushButton("Save…")
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.picture = PictureLabel()
        self.message = QLabel()
        self.message.setWordWrap(True)
        for name, widget in (
            ("Progress", self.progress),
            ("Message", self.message),
            ("Picture", self.picture),
        ):
            widget.setAccessibleName(name)

    def _lay_out(self) -> None:
        seeds, buttons = QHBoxLayout(), QHBoxLayout()
        for one in (self.seed, self.new_seed):
            seeds.addWidget(one)
        for button in (self.draw, self.cancel, self.save):
            buttons.addWidget(button)
        seed_label = QLabel("&Seed")
        seed_label.setBuddy(self.seed)  # a row of several widgets has no buddy by itself
        form = QFormLayout()
        form.addRow("&Prompt", self.prompt)
        form.addRow(seed_label, seeds)
        page = QVBoxLayout()
        page.addLayout(form)
        page.addLayout(buttons)
        page.addWidget(self.progress)
        page.addWidget(self.picture, 1)
        page.addWidget(self.message)
        middle = QWidget()
        middle.setLayout(page)
        self.setCentralWidget(middle)

    def _connect(self) -> None:
        drawer = self._drawer
        self.asked_open.connect(drawer.open)
        self.asked_draw.connect(drawer.draw)
        drawer.opened.connect(self._opened)
        drawer.stepped.connect(self._stepped)
        drawer.drawn.connect(self._finished)
        drawer.cancelled.connect(self._cancelled)
        drawer.failed.connect(self._failed)
        self.draw.clicked.connect(self._draw)
        self.prompt.returnPressed.connect(self._draw)
        self.seed.returnPressed.connect(self._draw)
        self.cancel.clicked.connect(drawer.cancel)
        self.save.clicked.connect(self._choose_file)
        self.new_seed.clicked.connect(self._take_new_seed)

    @Slot()
    def _draw(self) -> None:
        if self._busy or self._model is None:
            return
        prompt, seed = self.prompt.text().strip(), int(self.seed.text() or 0)
        if not prompt:
            self._say("Write what to draw first.")
            return
        if seed >= _SEEDS:
            self._say(f"The seed must be below {_SEEDS}.")
            return
        self._busy = True
        self.progress.setRange(0, self._model.pipeline.folder.steps)
        self.progress.setValue(0)
        self._say("Drawing")
        self._update()
        self.asked_draw.emit(Request(prompt, seed))

    @Slot()
    def _take_new_seed(self) -> None:
        self.seed.setText(str(random.randrange(_SEEDS)))

    @Slot(object)
    def _opened(self, model: Model) -> None:
        self._model = model
        self.setWindowTitle(f"{model.name} ({model.precision})")
        self.progress.setRange(0, 1)
        self._rest("Ready")

    @Slot(int, int)
    def _stepped(self, done: int, calls: int) -> None:
        self.progress.setRange(0, calls)
        self.progress.setValue(done)

    @Slot(object)
    def _finished(self, drawn: Drawn) -> None:
        self.drawn = drawn
        self.picture.show_picture(drawn)
        self.progress.reset()
        asked = drawn.request
        self._rest(f"{asked.prompt}, seed {asked.seed}, drawn in {drawn.seconds:.2f} s")

    @Slot()
    def _cancelled(self) -> None:
        self.progress.reset()
        self._rest("Cancelled")

    @Slot(str)
    def _failed(self, reason: str) -> None:
        self.progress.setRange(0, 1)
        self.progress.reset()
        if self._model is None:
            self.setWindowTitle("The model cannot be opened")
            self.picture.setText("The model cannot be opened: see below.")
        self._rest(reason)

    @Slot()
    def _choose_file(self) -> None:
        if self.drawn is None or self._model is None:
            return
        # Neither does a picture carry its prompt, nor is it put into the bundle.
        name = f"{_slug(self._model.name)}-{self.drawn.request.seed}.png"
        pictures = QStandardPaths.StandardLocation.PicturesLocation
        place = Path(QStandardPaths.writableLocation(pictures) or Path.home())
        start = str((place if place.is_dir() else Path.home()) / name)
        chosen, _ = QFileDialog.getSaveFileName(self, "Save picture", start, "Pictures (*.png)")
        if chosen:
            self.save_to(Path(chosen))

    def save_to(self, path: Path) -> None:
        """Write the picture that is shown, with what draws it again but the prompt."""
        if self.drawn is None or self._model is None:
            return
        folder = self._model.pipeline.folder
        told = {
            "model": self._model.name,
            "seed": self.drawn.request.seed,
            "steps": folder.steps,
            "guidance_scale": folder.guidance_scale,
            "sampler": folder.scheduler.name,
        }
        path = path if path.suffix else path.with_suffix(".png")
        try:
            path.write_bytes(encode_png(self.drawn.picture, {"parameters": json.dumps(told)}))
        except OSError as error:
            self._say(f"{path} cannot be written: {error.strerror}")
        else:
            self._say(f"Saved {path}")

    def _rest(self, message: str) -> None:
        self._busy = False
        self._say(message)
        self._update()

    def _say(self, message: str) -> None:
        self.message.setText(message)

    def _update(self) -> None:
        ready = self._model is not None and not self._busy
        self.draw.setEnabled(ready)
        self.cancel.setEnabled(self._busy and self._model is not None)
        self.save.setEnabled(ready and self.drawn is not None)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 (Qt's name)
        self._drawer.cancel()
        self._thread.quit()
        self._thread.wait()
        super().closeEvent(event)


def _slug(name: str) -> str:
    """Letters and digits of a model's name, for a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "picture"


def run(arguments: list[str]) -> int:
    """Show the window until it is closed."""
    app = QApplication(arguments)
    window = Window(model_folder())
    window.resize(480, 620)
    window.show()
    window.start()
    return app.exec()

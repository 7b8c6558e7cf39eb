"""Small pictures drawn in the theme's own colours: marks of a slide's state, swatches of classes, thumbnails."""

from functools import lru_cache
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPen, QPixmap, QPolygonF

from .theme import theme_colours

SIZE = 16  # px
CONTRAST = 60  # of 255


def theme_colour(viewer: Any, name: str = "icon") -> QColor:
    """A colour of the viewer's theme: text, icon, highlight, warning, error, current…"""
    return QColor(theme_colours(viewer)[name])


def alarm_colour(viewer: Any) -> QColor:
    """The theme's colour of errors, or of warnings where that one hardly stands out: it is a background in napari."""
    error, behind = theme_colour(viewer, "error"), theme_colour(viewer, "background")
    return error if abs(error.lightness() - behind.lightness()) > CONTRAST else theme_colour(viewer, "warning")


@lru_cache(maxsize=64)
def colour_icon(rgb: tuple[int, int, int], outline: str, size: int = SIZE) -> QIcon:
    """A class's colour as a square."""
    pixmap, painter = _canvas(size)
    painter.setBrush(QColor(*rgb))
    painter.setPen(QPen(QColor(outline), 1))
    painter.drawRoundedRect(QRectF(1.5, 1.5, size - 3, size - 3), 2, 2)
    painter.end()
    return icon(pixmap)


@lru_cache(maxsize=64)
def state_icon(kind: str, colour: str, size: int = SIZE) -> QIcon:
    """A slide's state: 'todo' a ring, 'labelled' a dot, 'done' a tick, 'warning' and 'failed' a triangle, a cross."""
    pixmap, painter = _canvas(size)
    painter.setPen(QPen(QColor(colour), 1.8, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
    unit = size / 16
    if kind == "todo":
        painter.drawEllipse(QPointF(8 * unit, 8 * unit), 4 * unit, 4 * unit)
    elif kind == "labelled":
        painter.setBrush(QColor(colour))
        painter.drawEllipse(QPointF(8 * unit, 8 * unit), 4 * unit, 4 * unit)
    elif kind == "done":
        painter.drawPolyline(_points(unit, (3, 9), (6.5, 12.5), (13, 4.5)))
    elif kind == "warning":
        painter.drawPolygon(_points(unit, (8, 2.5), (14, 13.5), (2, 13.5)))
        painter.drawLine(QPointF(8 * unit, 6.5 * unit), QPointF(8 * unit, 9.5 * unit))
        painter.drawPoint(QPointF(8 * unit, 11.7 * unit))
    elif kind == "failed":
        painter.drawLine(QPointF(4 * unit, 4 * unit), QPointF(12 * unit, 12 * unit))
        painter.drawLine(QPointF(12 * unit, 4 * unit), QPointF(4 * unit, 12 * unit))
    painter.end()
    return icon(pixmap)


def thumbnail_icon(pixels: np.ndarray | None, side: int, empty: QColor) -> QIcon:
    """(h, w, 3) uint8 in the middle of a square of `side` px; without pixels a frame in the colour `empty`."""
    pixmap = QPixmap(side, side)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    if pixels is None:
        painter.setPen(QPen(empty, 1, Qt.PenStyle.DotLine))
        painter.drawRect(QRectF(2.5, 2.5, side - 5, side - 5))
    else:
        height, width = pixels.shape[:2]
        data = pixels.tobytes()  # the image does not keep it
        image = QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888)
        scale = side / max(height, width)
        w, h = width * scale, height * scale
        painter.drawImage(QRectF((side - w) / 2, (side - h) / 2, w, h), image)
    painter.end()
    return icon(pixmap)


def icon(pixmap: QPixmap) -> QIcon:
    """The picture in its own colours: Qt would tint it in a selected row, and a stain is not to be tinted."""
    made = QIcon(pixmap)
    made.addPixmap(pixmap, QIcon.Mode.Selected)
    return made


def _canvas(size: int) -> tuple[QPixmap, QPainter]:
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    return pixmap, painter


def _points(unit: float, *points: tuple[float, float]) -> QPolygonF:
    return QPolygonF([QPointF(x * unit, y * unit) for x, y in points])

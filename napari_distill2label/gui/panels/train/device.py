"""Where to compute: a box with names and free memory."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ...session import Session
from ...widgets.controls import row
from .devices import Device, find_devices, placeholder_devices

ABOUT = "Where to compute: the processor, or a graphics card, which is many times faster for whole slides"
MISSING = "not on this machine: choose another"


class _LazyCombo(QComboBox):
    """Looks for devices when it is first opened: that imports torch, which nobody should wait for before."""

    opened = Signal()

    def showPopup(self) -> None:
        self.opened.emit()
        super().showPopup()


class DeviceBox(QWidget):
    """Shows and sets `settings.device` of the session."""

    chosen = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._devices: list[Device] = placeholder_devices()
        self._asked = False
        self.box = _LazyCombo()
        self.box.setToolTip(ABOUT)
        self.box.setAccessibleName("device")
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.box.setMinimumContentsLength(10)
        self.box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.box.opened.connect(lambda: None if self._asked else self.look())
        self.box.activated.connect(lambda index: self.chosen.emit(self.box.itemData(index)))
        self.again = QToolButton()
        self.again.setText("⟳")
        self.again.setAutoRaise(True)
        self.again.setToolTip("Look again which devices there are, and how much memory is free")
        self.again.setAccessibleName("look for devices again")
        self.again.clicked.connect(lambda checked=False: self.look())
        self.memory = QLabel()
        self.memory.setWordWrap(True)
        self.memory.setAccessibleName("free memory of the device")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addLayout(row(self.box, self.again, stretch=0))
        layout.addWidget(self.memory)

    @property
    def device(self) -> Device | None:
        """The device that is set, as far as it is known."""
        name = self._session.settings.device
        return next((device for device in self._devices if device.name == name), None)

    def look(self) -> None:
        """Ask for devices and their memory, in the background."""
        self._asked = True
        self.memory.setText("looking…")
        self._session.reader.request(("devices", id(self)), find_devices, self._take, self._fail)

    def look_again(self) -> None:
        """The same, if it is known what there is: memory has been used or freed."""
        if self._asked:
            self.look()

    def _take(self, devices: list[Device]) -> None:
        self._devices = devices
        self.refresh()

    def _fail(self, error: Exception) -> None:
        missing = isinstance(error, ImportError)
        self.memory.setText(
            "torch is not installed: pip install torch" if missing else f"cannot be asked: {str(error).splitlines()[0]}"
        )

    def refresh(self) -> None:
        """Show what is known, and what the session says."""
        name = self._session.settings.device
        devices = list(self._devices)
        if all(device.name != name for device in devices):
            devices.append(Device(name, name))
        wanted = [(device.name, device.title) for device in devices]
        if wanted != [(self.box.itemData(i), self.box.itemText(i)) for i in range(self.box.count())]:
            self.box.clear()
            for own, title in wanted:
                self.box.addItem(title, own)
        self.box.setCurrentIndex(self.box.findData(name))
        known = self.device
        if known is None:
            self.memory.setText(MISSING if self._asked else "")
        else:
            self.memory.setText(f"Memory: {known.memory}" if known.memory else "")
        self.memory.setVisible(bool(self.memory.text()))

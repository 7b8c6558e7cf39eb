"""Start Qt as napari does, and print what came of it: `python -m napari_distill2label.gui.qt_trial`.

In a process of its own (`workflow.window_check`), since Qt aborts the process where it cannot start.
"""


def main() -> None:
    """Print 'started', the platform, and whether OpenGL works; a failure is an ImportError or an abort."""
    from qtpy.QtGui import QOpenGLContext
    from qtpy.QtWidgets import QApplication

    application = QApplication([])
    print("started", application.platformName(), QOpenGLContext().create())


if __name__ == "__main__":
    main()

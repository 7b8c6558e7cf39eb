"""The five steps of the dock: widgets that show the project and call actions."""

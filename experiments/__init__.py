"""The paper's figures and tables. Each is one module and one command: `python -m experiments colon …`."""

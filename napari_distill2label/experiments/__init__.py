"""The paper's figures and tables, each one module, each one command: `distill2label experiment …`."""

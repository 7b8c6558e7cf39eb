"""What `napari.yaml` names: reader, writer, sample data; preferences; and what is loaded beforehand."""

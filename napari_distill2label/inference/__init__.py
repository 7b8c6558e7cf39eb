"""A network applied to a slide: one engine for predictions and for the features of a frozen encoder."""

"""The commands of the command line, one file a family: options in, a recipe called, text out."""

"""The main job, `pysmpc demo`: an ordinary network trained on secret-shared MNIST, then again in plain torch."""

"""The DeepEmotion service: pictures in, evoked emotions and their heat map out."""

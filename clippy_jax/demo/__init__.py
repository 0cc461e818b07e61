"""A page in the browser: drop an image, type words, see which pixels they name. `page` alone needs Gradio."""

"""TensorFlow Serving's REST API.

`paths` reads what a request asks for, `bodies` its body, `documents` the JSON in it (`parser` where
no library speaks the dialect). `inputs` and `features` make tensors and tf.Example messages of
it, `outputs` writes answers, `face` puts them together.
"""

"""Speaker encoders: a recording in, one vector out that says who speaks.

`network` holds the whole model (features, encoder, embedding), `ecapa` and `resnet` the encoders,
`pooling` what makes one vector of many frames, `layers` the convolutions. None of them streams: a
voice is judged when it has been heard. In the place of the streaming contract stands another: what
lies behind a recording's end changes nothing, and a batch equals its rows.
"""

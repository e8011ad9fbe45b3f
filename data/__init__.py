"""Speech in, batches out: corpora, audio, tokenizer, augmentation, batching. Host side.

`corpus` says what a corpus is and opens one by its spec; `manifest`, `librispeech` and `embedded`
are the sources, `views` and `joined` what can be made of them; `batching` plans the steps of a run
and `loader` reads them. It imports nothing of the other rooms.
"""

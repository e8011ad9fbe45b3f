"""Speech in, batches out: corpora, audio, tokenizer, augmentation, batching. Host side.

`corpus` says what a corpus is and opens one by its spec; `manifest`, `librispeech`, `libricss`,
`librispeechmix` and `embedded` are the sources, `views`, `joined` and `conversations` what can be
made of them; `turns` says what a turn of talk is and `segments` reads and writes them; `batching`
plans the steps of a run and `loader` reads them. It imports nothing of the other rooms.
"""

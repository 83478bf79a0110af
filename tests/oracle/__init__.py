"""A slow, obvious model of what fastsmtp promises, written from the specifications alone.

It takes bytes and facts and gives what a client or a consumer must see. It imports nothing of the
product and asks for no speed: where the product and this model differ, one of them is wrong, and
the specification says which.

* `content`: what DATA and BDAT transport, both ways
* `message`: the JSON object of one accepted message
* `commands`: MAIL and RCPT lines
* `corpus`: contents that are worth sending, the same in every run
* `strategies`: hypothesis strategies for all of these
"""

"""The load generator behind ``detserve bench``: offers load to one or two servers and measures it.

It knows servers by HTTP alone, so any service that takes images can be measured beside this one.
"""

#!/bin/sh
# A launcher as some agents have it: runs its arguments as a child, and does not forward signals.
trap '' TERM INT HUP
"$@" <&0 &
wait $!

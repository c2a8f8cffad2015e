#!/bin/sh
# An ACP agent of about a megabyte, so that a thousand can run beside each other. Every prompt gets one chunk; one with "hold=1" then stays
# open until it is cancelled.
sessions=0
held=
while IFS= read -r line; do
  id=${line#*\"id\":}
  id=${id%%[,\}]*}
  session=${line#*\"sessionId\":\"}
  session=${session%%\"*}
  case $line in
    *'"method":"initialize"'*)
      printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":1,"agentCapabilities":{},"authMethods":[]}}\n' "$id" ;;
    *'"method":"session/new"'*)
      sessions=$((sessions + 1))
      printf '{"jsonrpc":"2.0","id":%s,"result":{"sessionId":"s%s"}}\n' "$id" "$sessions" ;;
    *'"method":"session/prompt"'*)
      printf '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"%s","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"~own=0 "}}}}\n' "$session"
      case $line in
        *hold=1*) held=$id ;;
        *) printf '{"jsonrpc":"2.0","id":%s,"result":{"stopReason":"end_turn"}}\n' "$id" ;;
      esac ;;
    *'"method":"session/cancel"'*)
      [ -n "$held" ] && printf '{"jsonrpc":"2.0","id":%s,"result":{"stopReason":"cancelled"}}\n' "$held"
      held= ;;
    *'"id":'*)
      printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"method not found"}}\n' "$id" ;;
  esac
done

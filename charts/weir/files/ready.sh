# Asks each agent behind the name $AGENTS for /readyz on $PORT; ends with 1 if one of them is not ready, or none is there.
# Bash's own sockets: the image has no HTTP client.
failed=0
agents=$(getent ahosts "$AGENTS" | sed -n 's/ *STREAM.*//p' | sort -u)
if [ -z "$agents" ]; then
  echo "no agent: $AGENTS has no addresses"
  exit 1
fi
for agent in $agents; do
  answer=$(timeout 10 bash -c '
    exec 3<>"/dev/tcp/$1/$2" || exit
    printf "GET /readyz HTTP/1.0\r\nHost: weir\r\n\r\n" >&3
    cat <&3' ask "$agent" "$PORT" 2>&1) || true
  read -r _ status _ <<<"$answer" || true
  if [ "$status" = 200 ]; then
    echo "$agent: ready"
  else
    echo "$agent: not ready: $(tr -d '\r' <<<"$answer" | tail -n 1)"
    failed=1
  fi
done
exit "$failed"

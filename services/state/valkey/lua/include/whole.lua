-- A whole number as text: Lua would write large ones with an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

-- Budgets (budgets.ts). A record's fields: `budget`, `window` (2 a day, 3 a week, 4 a month, else all time), and what was counted last: `period`
-- (window:start), `period_spent`, `period_held`. `starts`: when the present window of each kind began.
local function counted(window, starts, spent, held, period, period_spent, period_held)
  local start = starts[window]
  if not start then return { period = '', spent = tonumber(spent), held = tonumber(held) } end
  if period then
    local counted_window, counted_start = string.match(period, '^(%d+):(%d+)$')
    -- A clock that is behind must not go back to a period that is over.
    if counted_window == window and tonumber(counted_start) >= tonumber(start) then
      return { period = period, spent = tonumber(period_spent), held = tonumber(period_held) }
    end
  end
  return { period = window .. ':' .. start, spent = 0, held = 0 }
end

-- The most that may be charged by the budget under which a hold was taken; nil: as much as it costs.
local function budget_room(budget, hold_period, hold, spent, held, period, period_spent, period_held)
  if not budget or budget == '' then return nil end
  if hold_period == '' then return math.max(hold, tonumber(budget) - tonumber(spent) - tonumber(held) + hold) end
  if hold_period ~= period then return hold end
  return math.max(hold, tonumber(budget) - tonumber(period_spent) - tonumber(period_held) + hold)
end

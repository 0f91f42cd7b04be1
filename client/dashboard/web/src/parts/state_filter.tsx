// Chooses one state of several, or any.

export function StateFilter({ states, state, onChoose }: { states: string[]; state: string; onChoose: (state: string) => void }) {
  return (
    <label>
      <span>State</span>
      <select value={state} onChange={(event) => onChoose(event.currentTarget.value)}>
        <option value="">any</option>
        {states.map((one) => (
          <option key={one} value={one}>
            {one.toLowerCase()}
          </option>
        ))}
      </select>
    </label>
  );
}

"""The grammar of the `assistant` configuration: what people say to a voice assistant.

Half of the probability lies in requests whose slots are open (names, numbers, times, addresses,
shopping lists) and a quarter in bare strings of names, digits, numbers and words, so that a
prediction network that knows the grammar by heart still has to be told the words by the encoder.
Numbers are spelled out; no word is read in two ways (`close`, `read`, `live`), and the only
homophones, `to` and `two`, `for` and `four`, are told apart by their neighbours.
"""

from __future__ import annotations

import functools
import re

from .grammar import Grammar, spell

# Lists of words, spoken as they stand: `rule: alternative, alternative, ...`.
_LISTS = """
room: kitchen, bathroom, bedroom, living room, dining room, hallway, garage, garden, basement,
    attic, office, nursery, porch, library, guest room, laundry room
device: lights, lamp, fan, heater, television, radio, speaker, camera, alarm, oven, kettle,
    thermostat, humidifier, projector, printer, washing machine, dishwasher, vacuum, coffee
    machine, sprinkler
opening: door, window, blinds, curtains, gate, shutters
colour: red, green, blue, yellow, purple, orange, white, pink, turquoise, violet, golden, silver
first: adam, alice, amelia, arthur, barbara, benjamin, carla, charlotte, daniel, david, diana,
    edward, elena, emma, felix, frank, george, grace, hannah, henry, isabel, jacob, james, julia,
    kevin, laura, leo, linda, lucas, margaret, maria, martin, michael, monica, nathan, nina,
    oliver, oscar, patrick, paula, peter, rachel, robert, samuel, sandra, simon, sophie, thomas,
    victor, zoe
last: anderson, baker, campbell, carter, cooper, davis, fisher, garcia, harris, jackson, johnson,
    kelly, lopez, martinez, miller, mitchell, morgan, murphy, nelson, parker, peterson, robinson,
    sanders, scott, stewart, taylor, thompson, turner, walker, watson, williams, wilson
item: apples, bananas, oranges, tomatoes, potatoes, onions, carrots, mushrooms, eggs, milk,
    butter, cheese, bread, rice, pasta, chicken, salmon, yogurt, honey, sugar, salt, pepper, olive
    oil, coffee, tea, juice, water, chocolate, cookies, soap, shampoo, toothpaste, batteries,
    candles, paper towels, garlic, lemons, spinach, cereal, lettuce
city: london, paris, berlin, madrid, rome, vienna, dublin, boston, chicago, denver, seattle,
    toronto, glasgow, manchester, oxford, sydney, tokyo, mumbai, cairo, nairobi, kingston, havana,
    lisbon, oslo
street: park, church, station, victoria, maple, river, castle, mill, queen, king, market, forest,
    hill, lincoln, washington, cedar
genre: jazz, classical, country, blues, gospel, electronic, folk, opera, soul, disco
song: yellow moon, silent river, dancing shadows, midnight train, summer rain, broken mirror,
    paper planes, ocean drive, golden hour, winter garden, lonely mountain, city of stars, sweet
    caroline, purple sky, secret garden, wild horses
animal: dog, cat, horse, rabbit, elephant, tiger, penguin, monkey, dolphin, parrot, spider,
    turtle, camel, zebra
task: water the plants, feed the {animal}, take out the rubbish, pay the electric bill, call
    {first} {last}, pick up {first}, book the dentist, charge the phone, get {item}, return the
    library books, clean the {room}, email {first}, renew my passport, take my medicine, check the
    {device}
ordinal: first, second, third, fourth, fifth, sixth, seventh, eighth, ninth, tenth, eleventh,
    twelfth, thirteenth, fourteenth, fifteenth, sixteenth, seventeenth, eighteenth, nineteenth,
    twentieth, twenty first, twenty second, twenty third, twenty fourth, twenty fifth, twenty
    sixth, twenty seventh, twenty eighth, twenty ninth, thirtieth, thirty first
weekday: monday, tuesday, wednesday, thursday, friday, saturday, sunday
month: january, february, march, april, may, june, july, august, september, october, november,
    december
meeting: meeting, lunch, interview, dinner, lesson, party, workshop
operation: plus, minus, times, divided by
unit: minutes, hours, metres, miles, ounces, pounds, litres, inches, kilometres, grams
feeling: happy, tired, hungry, thirsty, bored, excited, busy, cold, hot, sleepy
part: morning, afternoon, evening
switch: on, off
move: open, shut, lock, unlock
half: in the morning, in the afternoon, in the evening, at night
"""

_RULES: dict[str, list[str]] = {
    "sentence": [
        "{device_request} @14",
        "{timer} @9",
        "{calendar} @9",
        "{contact} @12",
        "{shopping} @9",
        "{music} @6",
        "{travel} @8",
        "{question} @6",
        "{talk} @3",
        "{string} @24",
    ],
    "device_request": [
        "[please ]turn {switch} the {room} {device}[ please]",
        "turn the {device} in the {room} {switch}",
        "turn {switch} the {device} and the {device}",
        "{move} the {room} {opening}[ please]",
        "[please ]{move} the {opening} in the {room}",
        "set the {room} {device} to {percent} percent",
        "dim the {room} lights to {percent} percent[ at {clock}]",
        "make the {room} lights {colour}[ and {colour}]",
        "change the lamp in the {room} to {colour}",
        "set the {room} to {degrees} degrees[ at {clock}]",
        "is the {device} in the {room} {switch}?",
        "did {first} {move} the {room} {opening}?",
    ],
    "timer": [
        "set a timer for {number} minutes[ and {number} seconds]",
        "start a {number} minute timer called {item}",
        "set an alarm for {clock}[ on {weekday}]",
        "wake me up {day} at {clock}",
        "cancel my {clock} alarm[ please]",
        "remind me to {task} {day}[ at {clock}]",
        "remind {first} to {task} in {number} minutes",
        "remind me at {clock} to {task}",
    ],
    "calendar": [
        "schedule a {meeting} with {first}[ {last}] on {weekday} at {clock}",
        "add {meeting} with {first} on the {ordinal} of {month}",
        "what is on my calendar {day}[ after {clock}]?",
        "move my {meeting} from {clock} to {clock}",
        "cancel the {meeting} with {first} {last}[ {day}]",
        "when is the birthday of {first} {last}?",
        "{first} was born on the {ordinal} of {month}",
        "how many days until {month} the {ordinal}?",
    ],
    "contact": [
        "[please ]call {first} {last}[ on {weekday}]",
        "call {first} at the office in {city}",
        "[please ]dial {seven_digits}",
        "send a message to {first}[ {last}] saying {message}",
        "text {first} and {first} that {message}",
        "email {first} {last} that {message}",
        "save the number {seven_digits} for {first}",
        "invite {first}, {first} and {first} {day}",
        "tell {first} {last} {message}",
        "my name is {first} {last} and my number is {seven_digits}",
    ],
    "message": [
        "i will be {number} minutes late",
        "the {meeting} is at {clock}",
        "we need {item} and {item}",
        "i am in {city} until {weekday}",
        "dinner is ready at {clock}",
        "the train leaves {city} at {clock}",
        "i left the {item} in the {room}",
        "we will meet at {number} {street} street",
    ],
    "shopping": [
        "add {item}[, {item}] and {item} to my shopping list",
        "we need {item}, {item}, {item} and {item}",
        "put {number} {item} on the list",
        "order {small} packets of {item}[ and {small} packets of {item}]",
        "remove {item} and {item} from the list",
        "how much are {small} pounds of {item}?",
        "take {item} off the list and add {item}",
        "get {item} for {first} and {item} for {first}",
    ],
    "music": [
        "play {song} by {first} {last}",
        "play some {genre}[ in the {room}]",
        "play {genre} music for {number} minutes",
        "set the volume to {number}[ in the {room}]",
        "add {song} to the {colour} playlist",
        "skip to track {number}[ please]",
        "stop the music in the {room} at {clock}",
        "who sings {song}?",
    ],
    "travel": [
        "navigate to {number} {street} street[ in {city}]",
        "take me to {number} {street} avenue[, {city}]",
        "how far is {city} from {city}?",
        "book a taxi from {street} street to {street} road[ at {clock}]",
        "find a flight from {city} to {city} on the {ordinal} of {month}",
        "when does the next train to {city} leave?",
        "my house is at {number} {street} road",
        "book a table for {small} at {clock} {day}",
        "is bus {number} going to {street} street?",
    ],
    "question": [
        "what is the weather in {city}[ {day}]?",
        "will it rain in {city} {day}?",
        "what is {number} {operation} {number}?",
        "how many {unit} are in {number} {unit}?",
        "what time is it in {city}[ and {city}]?",
        "how old is {first} {last}?",
        "how warm is the {room}?",
        "is {number} more than {number}?",
    ],
    "talk": [
        "good {part}[ {first}][, how are you]?",
        "thank you[ very much] {first}",
        "tell me a story about a {colour} {animal}[ and a {animal}]",
        "tell me a joke about {city}",
        "do you like {item}[ and {item}]?",
        "i am {feeling}[ and {feeling}] {day}",
        "what sound does a {animal} make?",
        "my {animal} is called {first}",
        "never mind, {first} will {task}",
    ],
    "string": [
        "{first} {last}, {first} {last}",
        "{first}, {first}, {first}[, {first}]",
        "{digit} {digit} {digit} {digit}[ {digit} {digit}]",
        "{seven_digits}",
        "{number}, {number}, {number}[, {number}]",
        "{weekday} the {ordinal} of {month}[ at {clock}]",
        "{item}, {item}, {item}[, {item}]",
        "{any} {any} {any}[ {any}] @3",
        "{any} {any}[ {any} {any}] {any} @3",
        "{last} {number} {colour} {city}",
        "{city}, {city}, {city}[ and {city}]",
    ],
    "any": [
        "{room}",
        "{device}",
        "{opening}",
        "{colour}",
        "{first} @2",
        "{last} @2",
        "{item} @2",
        "{city} @2",
        "{street}",
        "{genre}",
        "{animal} @2",
        "{month}",
        "{weekday}",
        "{ordinal}",
        "{number} @2",
        "{feeling}",
        "{song}",
        "{meeting}",
        "{unit}",
        "{small}",
    ],
    "seven_digits": ["{digit} {digit} {digit}, {digit} {digit} {digit} {digit}"],
    "clock": [
        "{hour}[ {half}] @2",
        "{hour} {minutes}[ {half}] @3",
        "half past {hour}",
        "quarter past {hour}",
        "quarter to {hour}",
        "noon @0.3",
        "midnight @0.3",
    ],
    "day": ["today", "tomorrow", "tonight", "on {weekday} @3", "next {weekday}", "this {part}"],
    "digit": [spell(n) for n in range(10)],
    "small": [spell(n) for n in range(2, 13)],
    "hour": [spell(n) for n in range(1, 13)],
    "minutes": ["oh five", *(spell(n) for n in range(10, 60))],
    "percent": [spell(n) for n in range(1, 101)],
    "degrees": [spell(n) for n in range(10, 31)],
    "number": ["{below_hundred} @3", "{hundreds}"],
    "below_hundred": [spell(n) for n in range(2, 100)],
    "hundreds": [spell(n) for n in range(100, 1000)],
}


@functools.cache
def assistant() -> Grammar:
    """The grammar; its rule `sentence` is what the corpus draws."""
    return Grammar({**_RULES, **_lists()})


def _lists() -> dict[str, list[str]]:
    entries = " ".join(_LISTS.split()).replace(", ", ",")
    parts = re.split(r"(?:^| )(\w+): ", entries)[1:]
    return {name: line.split(",") for name, line in zip(parts[::2], parts[1::2], strict=True)}

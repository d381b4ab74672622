// SPDX-License-Identifier: Apache-2.0
// The option parser against what Go's flag package and runc's library around it do.
#include "executor/cli/options.h"

#include <gtest/gtest.h>

namespace amphora::cli {
namespace {

struct Line {
  std::string bundle;
  bool detach = false;
  std::optional<bool> maybe;
  std::vector<std::string> env;
  std::optional<int64_t> limit;
  int count = 0;
};
constexpr Option kTable[] = {
    option<&Line::bundle>("bundle", 'b', "a path"),
    option<&Line::detach>("detach", 'd', "leave"),
    option<&Line::maybe>("maybe", 0, "three states"),
    option<&Line::env>("env", 'e', "many"),
    option<&Line::limit>("limit", 0, "a number"),
    option<&Line::count>("count", 0, "a small number"),
};

using Words = std::vector<const char*>;

struct Outcome {
  Line line;
  Words arguments;
  bool help = false;
  std::string error;
};

Outcome parse(const Words& words, Order order = Order::kAnywhere) {
  Outcome outcome;
  auto parsed = parse_options(kTable, order, words, &outcome.line);
  if (!parsed) {
    EXPECT_EQ(parsed.error().code(), Errc::kInvalid);
    outcome.error = parsed.error().what();
    return outcome;
  }
  outcome.arguments = parsed->arguments;
  outcome.help = parsed->help;
  return outcome;
}

std::vector<std::string> strings(const Words& words) { return {words.begin(), words.end()}; }

TEST(Options, OneAndTwoDashesAndLettersAreTheSame) {
  for (const Words& words : {Words{"-b", "/x"}, Words{"--b", "/x"}, Words{"-bundle", "/x"},
                             Words{"--bundle", "/x"}, Words{"-b=/x"}, Words{"--bundle=/x"}}) {
    EXPECT_EQ(parse(words).line.bundle, "/x") << words[0];
  }
}

TEST(Options, FlagsTakeNoWordButAValueBehindEquals) {
  const Outcome outcome = parse({"-d", "id"});
  EXPECT_TRUE(outcome.line.detach);
  EXPECT_EQ(strings(outcome.arguments), std::vector<std::string>{"id"});
  EXPECT_FALSE(parse({"--detach=false", "id"}).line.detach);
  EXPECT_TRUE(parse({"--detach=1", "id"}).line.detach);
  EXPECT_EQ(parse({"--detach=maybe"}).error,
            "invalid boolean value \"maybe\" for -detach: parse error");
  EXPECT_FALSE(parse({"id"}).line.maybe.has_value());
  EXPECT_EQ(parse({"--maybe=false"}).line.maybe, false);
}

TEST(Options, StandBehindArgumentsToo) {
  const Outcome outcome = parse({"id", "-d", "-b", "/x", "9"});
  EXPECT_TRUE(outcome.line.detach);
  EXPECT_EQ(outcome.line.bundle, "/x");
  EXPECT_EQ(strings(outcome.arguments), (std::vector<std::string>{"id", "9"}));
}

TEST(Options, UnknownOnesBehindAnArgumentAreArguments) {
  EXPECT_EQ(strings(parse({"id", "-9"}).arguments), (std::vector<std::string>{"id", "-9"}));
}

TEST(Options, StopAtTheFirstArgumentWhereTheProgramsWordsFollow) {
  const Outcome outcome = parse({"-d", "id", "ls", "-b", "--", "-d"}, Order::kStop);
  EXPECT_TRUE(outcome.line.detach);
  EXPECT_EQ(outcome.line.bundle, "");
  EXPECT_EQ(strings(outcome.arguments), (std::vector<std::string>{"id", "ls", "-b", "--", "-d"}));
}

TEST(Options, TwoDashesEndThem) {
  const Outcome outcome = parse({"--", "-d"});
  EXPECT_FALSE(outcome.line.detach);
  EXPECT_EQ(strings(outcome.arguments), std::vector<std::string>{"-d"});
}

TEST(Options, ALoneDashIsAnArgument) {
  EXPECT_EQ(strings(parse({"-"}).arguments), std::vector<std::string>{"-"});
  EXPECT_EQ(parse({"-b", "-"}).line.bundle, "-");
}

TEST(Options, RepeatedOnesAddUpInLists) {
  EXPECT_EQ(parse({"-e", "A=1", "--env=B=2"}).line.env, (std::vector<std::string>{"A=1", "B=2"}));
}

TEST(Options, NumbersAreChecked) {
  EXPECT_EQ(parse({"--limit", "-1"}).line.limit, -1);
  EXPECT_EQ(parse({"--limit", "1x"}).error, "invalid value \"1x\" for flag -limit: parse error");
  EXPECT_EQ(parse({"--limit", ""}).error, "invalid value \"\" for flag -limit: parse error");
  EXPECT_EQ(parse({"--count", "4294967296"}).error,
            "invalid value \"4294967296\" for flag -count: value out of range");
}

TEST(Options, MistakesAreNamedAsGoNamesThem) {
  EXPECT_EQ(parse({"--bogus", "id"}).error, "flag provided but not defined: -bogus");
  EXPECT_EQ(parse({"--bundle"}).error, "flag needs an argument: -bundle");
  EXPECT_EQ(parse({"---x"}).error, "bad flag syntax: ---x");
  EXPECT_EQ(parse({"--=x"}).error, "bad flag syntax: --=x");
}

TEST(Options, HelpIsAlwaysKnown) {
  EXPECT_TRUE(parse({"--help"}).help);
  EXPECT_TRUE(parse({"-h"}).help);
  EXPECT_TRUE(parse({"id", "--help"}).help);
  EXPECT_FALSE(parse({"id", "--help"}, Order::kStop).help);
}

TEST(Options, NumbersHaveNothingAroundThem) {
  EXPECT_EQ(parse_number("42"), 42);
  EXPECT_EQ(parse_number("+42"), 42);
  EXPECT_EQ(parse_number("-42"), -42);
  EXPECT_EQ(parse_number(""), std::nullopt);
  EXPECT_EQ(parse_number(" 42"), std::nullopt);
  EXPECT_EQ(parse_number("0x10"), std::nullopt);
  EXPECT_EQ(parse_number("9223372036854775808"), std::nullopt);
}

}  // namespace
}  // namespace amphora::cli
